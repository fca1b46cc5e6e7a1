"""Where audio lies: S3 and directories."""
