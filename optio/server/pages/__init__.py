"""The dashboard: pages that the server renders, and the login of browsers. They show what the API answers, and act as it does;
the one script on them keeps the page of a running run up to date."""
