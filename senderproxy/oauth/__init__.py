"""OAuth 2.0: access tokens for accounts at providers without password logins."""
