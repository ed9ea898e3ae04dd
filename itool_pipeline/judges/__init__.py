"""Judges: whether a response is right, how far one has come that goes on, and which mistake a wrong one makes.

What differs between sources is an object, their `MatchingRules`; verdict, progress and mistake are the same for all.
"""
