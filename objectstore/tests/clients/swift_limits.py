"""Swift's rate limits: who asks too often waits, and is told to slow down where that would take too long."""
import json, os, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

URL, ROOT = os.environ["SWIFT_URL"], os.environ["SWIFT_ROOT"]


def ask(method, path, body=b""):
    request = urllib.request.Request(URL + path, body, {"x-auth-token": "p:member"}, method=method)
    try:
        with urllib.request.urlopen(request) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


info = json.load(urllib.request.urlopen(ROOT + "/info"))
assert info["ratelimit"] == {"account_ratelimit": 2, "max_sleep_time_seconds": 1, "container_ratelimits": [[0, 4]], "container_listing_ratelimits": []}
assert ask("PUT", "/c")[0] == 201
began = time.monotonic()
assert [ask("PUT", f"/c/{n}", b"x")[0] for n in range(5)] == [201] * 5
assert time.monotonic() - began > 0.7
with ThreadPoolExecutor(20) as pool:
    answers = list(pool.map(lambda n: ask("PUT", f"/c/{n}", b"x"), range(20)))
assert {s for s, _ in answers} == {201, 498}, answers
assert all(b == b"Slow down" for s, b in answers if s == 498), answers
# What is only read is not held back.
assert [ask("GET", "/c/0")[0] for _ in range(20)] == [200] * 20
print("limits ok")
