-- oldest: 1
-- The gate that refused an invalid delivery; NULL for all others, and for those that older versions stored.
ALTER TABLE deliveries ADD COLUMN gate TEXT;
