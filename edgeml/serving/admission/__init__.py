"""Who may start now, who waits and who is refused at once: decisions without threads or clocks."""
