from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"
    verbose_name = "Realtime"

    def ready(self) -> None:
        from channels.layers import get_channel_layer

        from pems_sync.journal import journal_grew
        from realtime.announcing import announce_growth

        get_channel_layer()  # its imports take 20 ms and more: now, not while somebody waits for the first event
        journal_grew.connect(announce_growth, dispatch_uid="realtime.announce_growth")
