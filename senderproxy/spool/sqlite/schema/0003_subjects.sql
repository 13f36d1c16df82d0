-- The spool, format 3. Subjects of the messages that arrive while the setting keeps them; without it, no row.

CREATE TABLE subject (
    message INTEGER PRIMARY KEY, -- its number
    text TEXT NOT NULL CHECK (length(text) <= 200) -- decoded, as it is shown
) STRICT;

-- The words of each subject in lower case, for the searches.
CREATE TABLE subject_word (
    word TEXT NOT NULL CHECK (length(word) <= 40),
    message INTEGER NOT NULL,
    PRIMARY KEY (word, message)
) STRICT, WITHOUT ROWID;

CREATE INDEX subject_word_by_message ON subject_word (message);
