"""OAuth 2.0: access tokens for accounts at providers that accept no passwords."""
