"""Calls between actors: one way in a site (over Ray) and between sites (over the transport's control stream).

* `Service`: base of every actor. Methods marked `@exposed` take ``(caller, request)`` and return a response, all
  `msgspec.Struct`; the body crosses as msgpack and is validated on arrival.
* `Directory`: the caller's side; finds whether the node is in this site (Ray) or elsewhere (the node's transport).
"""
