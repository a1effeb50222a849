from django.urls import path

from realtime.api import TicketView

urlpatterns = [path("api/realtime/ticket", TicketView.as_view())]
