"""Read models: what pages and routes of the same name show alike, put together from the store and the served tasks. They change
nothing; what is dear is kept for a second, a minute or the life of a generation."""
