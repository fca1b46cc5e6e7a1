"""What control consists of; a further part is one more name in `PARTS`."""

from collections.abc import Callable, Sequence

from producer.control.bulks import bulks
from producer.control.context import Context, Part
from producer.control.webhooks.part import webhooks

PARTS: Sequence[Callable[[Context], Part]] = (bulks, webhooks)
