"""How many calls may go out, and when: one object for each limit key, on a clock that is given to it.

    bucket      what a server's limit headers say, carried on between answers
    pace        the rate at which a server without such headers lets calls in, estimated
    noise       whether slowing down was of any use: refusals may be chance
    adaptive    from the first call to a known rate: doubling, then pacing
    key         one key: in flight, reservations, Retry-After, headers or none
    keys        all keys of a run, and what is told of them

Pure: `now` (seconds on any clock that never goes back) comes with every call (SCHEDULING, Limits).
"""
