"""What each medium can carry: its addresses, its part of the content, what it hands over, what it keeps in order.

::

    port       what a channel is, and what it hands to a provider
    part       what a channel alone says: declared once, every model of it is made from that       pure
    registry   which channels are installed: entry points of the group `pabal.channels`
    content    the models that hold every installed channel's part; what is a channel's to spell    pure
    email, webhook                                                                                  pure

A new channel is one module and one entry point, here or in a package of its own: docs/channels.md.
"""
