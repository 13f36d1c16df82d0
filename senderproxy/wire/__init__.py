"""SMTP grammar and dialogue on the server side: commands, AUTH, DATA, replies. PURE."""
