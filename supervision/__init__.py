"""What a service and its service manager say to one another: notifications, watchdog, sockets handed over, the log.

The manager's side is systemd's, or any that keeps the same protocols: sd_notify(3), sd_watchdog_enabled(3),
sd_listen_fds(3), sd-daemon(3). Without a manager nothing here does anything.
"""
