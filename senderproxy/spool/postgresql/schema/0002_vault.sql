-- oldest: 1
-- The sealed vault of all instances, in one row at most. The version is random, and another one after each write.
CREATE TABLE vault (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    sealed bytea NOT NULL
);
ALTER TABLE vault ALTER COLUMN sealed SET STORAGE EXTERNAL; -- it cannot be compressed
