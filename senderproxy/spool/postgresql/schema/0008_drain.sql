-- What an instance lets the others show, format 8. A program of format 7 may go on: it writes no drain and shows none.
-- oldest: 7

ALTER TABLE instance ADD COLUMN draining boolean NOT NULL DEFAULT false; -- its proxy sends new clients elsewhere
