"""When a schedule fires: cron expressions in a zone, nights on which clocks are set, and how many fires meet. Pure."""
