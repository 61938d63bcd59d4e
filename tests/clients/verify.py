"""Checks the signature of a webhook with the library of Standard Webhooks.

python verify.py <secret> <{"headers": {...}, "body": "..."}>
"""

import json
import sys

from standardwebhooks import Webhook

secret, received = sys.argv[1:]
received = json.loads(received)
Webhook(secret).verify(received["body"], received["headers"])
