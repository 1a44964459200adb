"""One YAML file per device model; ``collectors.profiles.profile`` reads them."""
