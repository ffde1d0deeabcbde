"""Computes the published event_id vectors from the rule alone and prints the contents of event_id.txt."""
import hashlib


def lp(*fields):
    return b"".join(len(f).to_bytes(4, "big") + f for f in fields)


def event_id(day, kind, control, facts, previous=b"", what=""):
    digest = hashlib.sha256(lp(*(f.encode() for f in facts))).digest()
    message = lp(b"ssf1", b"3f5c1d2e-0000-4000-8000-00000000c0de", day.encode(), kind.encode(), what.encode(), control.encode(), digest, previous)
    return hashlib.sha256(message).hexdigest()[:40]


first = event_id("2026-11-22", "control", "AdminMFAV2", ("10", "100"))
print("# event_id  what it identifies (tenant 3f5c1d2e-0000-4000-8000-00000000c0de, day 2026-11-22)")
print(first, "control AdminMFAV2, score 10, percentage 100")
print(event_id("2026-11-22", "control", "AdminMFAV2", ("7.83", "-")), "control AdminMFAV2, score 7.83, percentage absent")
print(event_id("2026-11-22", "control", "AdminMFAV2", ("7.83", "-"), first.encode()), "the same as a revision of the first")
print(event_id("2026-11-22", "summary", "", ("815.22", "1376")), "summary, current 815.22, maximum 1376")
regressed = ("2026-11-21", "8", "100", "0", "0", "")
print(event_id("2026-11-22", "change", "A", regressed, what="regressed"), "change of A since 2026-11-21, score 8 to 0, percentage 100 to 0, no baseline")
decided = ("2026-11-22T01:00:00Z", "ben", "Ignored")
print(event_id("2026-11-22", "change", "A", decided, what="decision_changed"), "decision of ben's on A at 2026-11-22T01:00:00Z, Ignored")
gap = ("gap", "2026-11-22", "begin")
print(event_id("2026-11-22", "quality", "2026-11-22", gap, what="gap"), "observation that a gap of 2026-11-22 begins")
