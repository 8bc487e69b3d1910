"""The development inbox: everything sent is caught here and shown, nothing leaves the machine.

`pabal up` without a mail server of its own sends e-mail to this inbox. It is a real SMTP server on a local port, so
the provider speaks to it as it would to any other, and a small web application: a page for people, the same as JSON
for tests, and a URL (`/hook/…`) that takes webhooks and checks their signature. In the spirit of Mailpit, but tiny.

::

    SMTP ──▶ smtp ────┐
                      ├──▶ mailbag (the last 500, in memory) ──▶ reading ──▶ pages (HTML, JSON)
    POST /hook/… ─────┘

Everything runs in the caller's event loop, without a thread of its own; reading and rendering of many messages is
done in the thread pool, because the page may be open while a load test runs. What arrives is taken as it is and
parsed when it is looked at. Nothing is written to disk: a restart empties the inbox.

What is shown was written by strangers. Every text goes through Jinja2's autoescaping, the HTML of an e-mail is
shown in a sandboxed frame that runs no script and loads nothing from elsewhere, and the pages' own policy allows
only the stylesheet and the script that come with them. Bind it to loopback (the default): there is no login. So it
answers only when asked by a name or an address of loopback (no page of a stranger can read it by a name that leads
here), and shows no key: the first command reads the key from its file.
"""

from pabal.inbox.inbox import Inbox

__all__ = ["Inbox"]
