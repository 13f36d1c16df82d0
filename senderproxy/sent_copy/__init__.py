"""Copies of sent messages in the Sent folder of their mailbox, by IMAP. The only package that imports imapclient."""
