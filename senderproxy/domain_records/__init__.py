"""DNS records of a sending domain: SPF, DKIM, DMARC and MX, judged in one place for `check` and the service."""
