"""A rehearsal ESP: one local server that speaks a real provider's requests, answers and webhooks.

It is the other side of `sendwave/esp`: written from the providers' documents, it never reads an adapter. `providers/`
holds one file per ESP; `service` decides what becomes of a call, `fates` what becomes of each mail, `posting` how it is
told; `server`, `mail` and `queue` are the doors to the network.
"""
