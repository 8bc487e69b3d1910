"""E-mail over SMTP submission: one message, one recipient, one transaction.

::

    options      what the configuration may say about a server
    mailbox      one address as SMTP and the head fields can carry it
    message      the bytes of the message                                    pure
    reply        a server's reply -> what became of the delivery             pure
    connection   one dialogue with a server; alone knows aiosmtplib
    pool         connections kept for the next message
    receipts     a relay's later reports -> receipts                         pure
    provider     one hand-over: pool, dialogue, verdict of the reply
"""

from pabal.providers.smtp.provider import create

__all__ = ["create"]
