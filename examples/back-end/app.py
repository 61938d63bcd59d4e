"""The back end of the page in examples/page: serves the page, signs its users in, and lists its online users.

    python app.py     # prints where it is; add ?user=bob to be bob
"""

import json
import os
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import presence

TEAM = ["alice", "bob", "carol"]
PAGE = Path(__file__).parent.parent / "page"


class App(SimpleHTTPRequestHandler):
    def __init__(self, *arguments):
        super().__init__(*arguments, directory=PAGE)

    def do_POST(self):
        """Signs in. A real application asks for a password, and knows the user from its session."""
        user = parse_qs(urlsplit(self.path).query).get("user", ["alice"])[0]
        token = presence.mint_token(user, watch=TEAM, seconds=600)
        self.answer({"service": os.environ["PRESENCE_URL"], "userId": user, "team": TEAM, "token": token})

    def do_GET(self):
        if self.path == "/team":
            self.answer({"online": presence.online_among(TEAM)})
        else:
            super().do_GET()

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


app = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("APP_PORT", 3000))), App)
print(f"http://127.0.0.1:{app.server_port}", flush=True)
app.serve_forever()
