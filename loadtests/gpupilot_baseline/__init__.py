"""The baseline table: closed-loop users against a real server, one level after another."""
