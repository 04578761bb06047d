"""What a command is asked to do: environments, presets, flags."""
