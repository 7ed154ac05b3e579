-- oldest: 1
-- The program of a process, with the digest of its file, as a pod has its image. Statements of older versions name the columns.
ALTER TABLE attempt_agents ADD COLUMN program TEXT;
