"""Words of upstream replies, by what they are about. PURE.

Guarantees: a pattern takes time in proportion to a bounded text. Umlauts are transcribed or replaced by `?`, so
patterns allow one or two characters for each.
Not here: the stage, status and code of a reply, which decide first (delivery.causes). tests/corpus/replies.csv has the
replies that hold each pattern.
"""

import re
from typing import Final


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


TEXT_LIMIT: Final = 2000  # characters; the text of the longest known reply has 900

ADDRESS: Final = re.compile(r"<?[^\s<>@\"',;:()]{1,64}@[^\s<>@\"',;()]{1,255}>?")
RECIPIENT_PREFIX: Final = re.compile(
    r"recipient address rejected:? ?", re.IGNORECASE
)  # Postfix: before any policy text

EHLO_FIRST: Final = _words(r"\b(?:e?helo|hello)\b.{0,20}\bfirst\b", r"\bsend e?helo\b")
EHLO_NAME: Final = _words(
    r"\b(?:e?helo|hello)\b", r"fully[- ]qualified (?:host|domain)", r"host ?name\b.{0,30}\bgreeting\b",
    r"host ?names? (?:must )?ha(?:s|ve)\b",
)  # fmt: skip
TEMPORARY: Final = _words(
    r"\btempor", r"\b4\.\d{1,3}\.\d{1,3}\b", r"\b(?:try|retry|come back)\b.{0,20}\b(?:again|later)\b", r"\blater\b",
    r"connection (?:lost|refused|timed|reset|to)", r"lost connection", r"time(?:d)?[- ]?out",
    r"(?<!reason )\bunavailable\b",
    r"not available", r"internal (?:server |auth\w* )?(?:error|failure)", r"\bserver (?:error|failure|problem)",
    r"system (?:error|failure|problem|busy)", r"\bbusy\b", r"\bbackend\b", r"generic failure",
    r"authentication (?:server|service|daemon)", r"\b(?:cannot|can't|could not|unable to|failed to) (?:connect|contact|"
    r"reach|verify|check|query|process)", r"\b(?:database|ldap|radius|dovecot|sasl(?:authd)?) (?:error|failure|lookup|"
    r"server|is|connection)", r"\bmaintenance\b", r"\bwartung", r"vor.{1,2}bergehend", r"\bsp.{1,2}ter\b",
    r"nicht (?:erreichbar|verf.{1,2}gbar)", r"zeit.{1,2}berschreitung",
)  # fmt: skip
METHOD: Final = _words(
    r"\bmechanism\b", r"auth(?:entication)? (?:type|method|scheme)",
    r"\bauth(?:entication)?\b.{0,20}\bnot (?:implemented|"
    r"supported|recogni[sz]ed)", r"unrecogni[sz]ed auth", r"unsupported auth", r"anmeldeverfahren",
    r"authentifizierungs?(?:methode|verfahren)",
)  # fmt: skip
LOGIN_LIMIT: Final = _words(
    r"\btoo many\b", r"\btoo (?:often|frequent)", r"\b(?:rate|login|connection|frequency|attempt)s?[ -]*limit",
    r"\blimit(?:ed)? .{0,20}(?:exceed|reach)", r"\bthrottl", r"\bzu (?:viele|oft|h.{1,2}ufig)", r"\bslow down\b",
    r"\bfrequency\b",
)  # fmt: skip
PASSWORDS_OFF: Final = _words(r"basic auth\w*\b.{0,40}\b(?:disabled|not supported|deprecated|retired)")
APP_PASSWORD: Final = _words(
    r"\bapp(?:lication)?s?[- ]?(?:specific )?[- ]?password", r"application-specific", r"authori[sz]ation code",
    r"app[- ]?passw", r"web ?browser", r"webmail", r"two[- ](?:factor|step)", r"\b2fa\b", r"second factor",
    r"less secure", r"anwendungsspezifisch", r"zwei-?faktor", r"this type of passw", r"InvalidSecondFactor",
    r"e-?mail-passwort",
)  # fmt: skip
SMTP_OFF: Final = _words(
    r"SmtpClientAuthentication", r"smtp[_ ]auth\w*[_ ](?:is )?(?:disabled|off)", r"security defaults",
    r"\b(?:smtp|pop3?|imap4?|access|service|zugang|zugriff|abruf|versand)\b.{0,60}\b(?:disabled|deactivated|blocked|"
    r"not (?:been )?(?:enabled|activated|allowed|permitted)|(?:not|is) (?:open|switched on)|switched off|nicht "
    r"(?:akt\w+|freige\w+|erlaubt|einge\w+)|deaktiviert|gesperrt|abgeschaltet|ausgeschaltet)",
    r"\b(?:enable|activate|turn on|switch on|aktivieren)\b.{0,40}\b(?:smtp|pop3?|imap4?|external|access|client)",
    r"did not meet the criteria", r"auth\w*\b.{0,30}\bnot (?:enabled|available|allowed|advertised)",
    r"\bsmtp\b.{0,30}\bnicht\b.{0,20}(?:aktiv|freige|erlaubt)", r"\bhas no permission\b",
    r"\bnot (?:allowed|permitted|enabled) to use\b",
)  # fmt: skip
WRONG_CREDENTIALS: Final = _words(r"credentials? (?:were|was|are|is) (?:incorrect|invalid|wrong)", r"badcredentials")
LOCKED: Final = _words(
    r"\b(?:account|mailbox|user|login|postfach|konto|benutzer)\b.{0,40}\b(?:locked|blocked|suspended|disabled|expired|"
    r"deactivated|inactive|frozen|banned|gesperrt|deaktiviert|abgelaufen)", r"\b(?:locked|suspended) (?:account|user)",
)  # fmt: skip

SESSION_LIMIT: Final = _words(  # IONOS: 451 Mails per session limit. Exim and sendmail use other phrases.
    r"\b(?:mails?|messages?|e-?mails?) per (?:session|connection)\b",
    r"\btoo many (?:messages|mails|e-?mails|transactions) (?:(?:in|on|per|for|during) )?(?:this|one|a|the) "
    r"(?:single )?(?:smtp )?(?:session|connection)\b",
    r"\blimit\b.{0,30}\b(?:per|for|in) (?:(?:this|one|a|the) )?(?:smtp )?(?:session|connection)\b",
)
SESSION: Final = _words(
    r"\b(?:session|connection|idle|inactiv\w*|sitzung)\b.{0,40}\b(?:time(?:d)? ?out|expired|too (?:old|long)|duration|"
    r"closed|abgelaufen|limit exceeded)", r"\b(?:timeout|timed out)\b", r"\breconnect\b", r"\bidle\b",
    r"zeit.{1,2}berschreitung",
)  # fmt: skip
LOGIN_LOST: Final = _words(
    r"\bnot (?:been )?(?:authenticated|logged in)\b", r"\bauth(?:entication)? (?:is )?(?:required|needed)",
    r"\b(?:must|need to|please|should|have to)\b.{0,30}\b(?:authenticate|log ?in|login)\b",
    r"\brelay(?:ing)?\b.{0,20}\b(?:denied|prohibited|not (?:permitted|allowed))", r"\bunable to relay\b",
    r"\bnot permitted to relay\b", r"unauthenticated", r"without authentication", r"turn on smtp auth",
    r"nicht (?:authentifiziert|angemeldet)", r"anmeldung (?:ist )?erforderlich",
)  # fmt: skip
RELAY: Final = _words(r"\brelay")
SENDER_OF_LOGIN: Final = _words(  # Zoho: 553 Relaying disallowed as anna@firma.example
    r"\brelay\w*\b.{0,20}\bas\b",
    r"\b(?:must|should) (?:be|equal|match)\b.{0,30}\b(?:authori[sz]|authenticat)",
    r"\bfrom\b.{0,30}\bnot valid\b",
)
CONNECTIONS: Final = _words(
    r"\btoo many\b.{0,30}\b(?:connections?|sessions?)\b", r"\b(?:concurrent|simultaneous)\b.{0,20}\b(?:connections?|"
    r"sessions?)\b", r"\bconnections?\b.{0,30}\b(?:limit|exceed|reached)", r"\bmaximum\b.{0,30}\bconnections?\b",
    r"zu viele (?:gleichzeitige )?verbindungen", r"trop de connexions", r"\bthread limit\b",
    r"\bconcurrency limit\b",
)  # fmt: skip
RATE: Final = _words(
    r"(?:send(?:ing|er)?|submission|relay(?:ing)?|outgoing|outbound|rate|policy|volume|ratelimit|policyd?)s?[ -]*"
    r"(?:(?:e-?)?mails?|messages?|rate|frequency)?[ -]*(?:limit|quota|overlimit)",
    r"\b(?:limit|quota|exceed\w*|maximum|max|allow\w*|only|sent)\b.{0,80}\b(?:per|an?|this|each|every|/|in the last|"
    r"within|pro|24) ?(?:\d+ ?)?-?(?:hours?|days?|minutes?|seconds?|months?|min\b|h\b|stunde|tag|minute)",
    r"\b(?:hourly|daily|monthly|hour|day|per[- ](?:hour|day|minute|second)|24.hours?)\b.{0,60}\b(?:limit|quota|exceed|"
    r"cap\b)",
    r"\bmax(?:imum)? defers\b", r"\brate[ -]?limit", r"\boverlimit\b", r"\bfrequency limit", r"RATE_MSG",
    r"SubmissionQuotaExceeded", r"\btoo much mail\b(?! data)",
    r"\btoo many recipients (?:from|within|today|(?:in )?(?:this|per|an?|the last) (?:hour|day|minute))\b",
    r"\btoo many (?:messages|mails|e-?mails|requests|log-?ins|deliveries|transactions)\b", r"\bthrottl(?:ed|ing|e)\b",
    r"\bslow(?:er| down)\b", r"\btoo (?:fast|quickly)\b", r"\bexceed\w*\b.{0,40}\b(?:outgoing|sending|outbound)\b",
    r"\b(?:outgoing|sending|outbound)\b.{0,40}\bexceed",
    r"\b(?:versand|sende|tages|stunden|mail)-?(?:limit|kontingent)",
    r"\bzu viele (?:nachrichten|e-?mails|mails|empf.{1,2}nger (?:pro|in))", r"\bunexpected volume\b",
    r"\btrop de (?:messages|mails)\b", r"\b(?:limite|quota) d.envoi", r"maximum (?:sending|message) rate",
    r"\bcredits?\b.{0,20}exceed", r"\b(?:limit|quota)\b.{0,40}\btoday\b",
    r"\bmax(?:imum)? (?:number|amount) of (?:outgoing |sent )?(?:messages|e-?mails|mails)\b",
    r"\bsending\b.{0,20}\b(?:paused|suspended)\b", r"\bpolicy rejection\b.{0,20}\bquota\b",
)  # fmt: skip
ANY_LIMIT: Final = _words(  # in reply to MAIL or the message, where no recipient is meant
    r"\b(?:limit|quota|kontingent)\b.{0,60}\b(?:exceed|reach|hit|erreicht|.{1,2}berschritten)",
    r"\b(?:exceed|reach|hit)\w*\b.{0,60}\b(?:limit|quota)", r"\bover quota\b", r"\bquota\b",
)  # fmt: skip
SIZE: Final = _words(
    r"\bsize\b.{0,40}\b(?:exceed|limit|large|big|maximum)", r"\b(?:exceed\w*|maximum|max|fixed)\b.{0,40}\bsize\b",
    r"\b(?:message|mail|too) ?(?:is )?(?:too )?(?:large|big)\b", r"\btoo much mail data\b", r"zu gro.{1,2}\b",
    r"\b(?:stream|message|mail|body)\b.{0,20}\b(?:more|longer|bigger|larger) than \d",
    r"gr.{1,3}e .{0,30}.{1,2}berschr", r"\bmessage length exceeds\b",
)  # fmt: skip
MANY_RECIPIENTS: Final = _words(
    r"\btoo many (?:recipients|rcpt|addresses|to)\b", r"\brecipients?\b.{0,30}\b(?:limit|maximum|exceed|too many)",
    r"\b(?:limit|maximum|max|number)\b.{0,30}\brecipients?\b", r"zu viele empf",
)  # fmt: skip
ABOUT_RECIPIENT: Final = _words(
    r"\brecipient(?!s)\b", r"\bmailbox\b", r"\byou(?: are|'re)? ?(?:tried|trying) to (?:reach|contact)\b",
    r"STOREDRV\.Deliver", r"\bpostfach\b", r"\bempf.{1,2}nger\b", r"\bdestinataire\b",
)  # fmt: skip
SENDER: Final = _words(
    r"\bsenders?\b", r"\bfrom[ -]?(?:address|header|field|domain)", r"\b(?:address|header) from\b", r"\bfrom:",
    r"\bmail ?from\b", r"\breverse-?path\b", r"\breturn-?path\b", r"\benvelope (?:sender|from|address)",
    r"\babsender", r"\bsend as\b",
    r"\bsendas", r"\bon behalf\b", r"\bnot owned by\b", r"\bauthori[sz]ed user\b", r"\bverified\b", r"\bimpersonat",
    r"\bauthenticated (?:user|as|id)", r"\bsubmission not allowed\b", r"\bexp.{1,2}diteur\b", r"identit(?:y|ies)\b",
    r"\bsend(?:ing)? (?:e?-?mails? |messages? )?(?:from|as)\b", r"\b(?:this|that|your) from\b", r"\bspoof",
)  # fmt: skip
NOT_OUR_SENDER: Final = _words(  # about the content, although a sender is mentioned
    r"\bspam\b", r"\bvirus\b", r"\bdmarc\b", r"\bspf\b", r"\bdkim\b", r"\bduplicate\b", r"\bmultiple\b", r"\bsyntax\b",
    r"\brfc ?\d{4}", r"\bsenders? (?:to|on) (?:accept|the recipient)", r"recipient's list", r"\breputation\b",
)  # fmt: skip
UNKNOWN_DOMAIN: Final = _words(r"\bdomain\b.{0,60}\b(?:not|no)\b", r"\bnot found\b", r"\bdns\b", r"\bmx\b")
BLOCKED: Final = _words(
    r"\bclient host\b.{0,80}\b(?:blocked|rejected|denied)", r"\bblocked using\b", r"\bspamhaus\b", r"\b(?:rbl|dnsbl)\b",
    r"\b(?:your|sending|banned|source|client)\b.{0,12}\bip\b.{0,60}(?:\b(?:black|block|ban|list|reputation|denied|"
    r"reject)|$)", r"\bip\b.{0,40}\b(?:black|block|bann|reputation|gesperrt)", r"\b(?:banned|blocked|blacklisted)\b"
    r".{0,30}\bip\b", r"\breverse dns\b", r"\bptr\b", r"cannot find your (?:hostname|reverse)",
    r"hosts? (?:with )?dynamic ip", r"\bip name lookup failed\b", r"your network is\b",
)  # fmt: skip
ASKED_ELSEWHERE: Final = _words(r"\bsaid:", r"\bundeliverable\b", r"\bunverified address\b")  # another server's words
SENDER_REJECTED: Final = _words(r"\bsender address rejected\b", r"\bsender verif")
FULL: Final = _words(r"\bfull\b", r"over ?quota", r"\bquota\b", r"\bdisabled\b", r"storage", r"\bvoll\b")
