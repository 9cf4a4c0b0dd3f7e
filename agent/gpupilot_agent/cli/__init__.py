"""The command line ``gpupilot``: one module per command, heavy imports inside the commands."""
