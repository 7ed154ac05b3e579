"""Schedule times: cron expressions in a time zone, nights on which clocks are set, and how many schedules fire together. Pure
functions for the compiler, the scheduler process and the CLI."""
