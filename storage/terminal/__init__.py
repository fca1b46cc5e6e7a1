"""What both command lines share: how text reaches a screen, tables, options."""
