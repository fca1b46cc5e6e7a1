"""The pipeline worker: fetch → decode → normalize → infer."""
