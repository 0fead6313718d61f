from django.urls import path, re_path

from . import views
from .serializers import ID

urlpatterns = [
    path("lab/", views.WayList.as_view(), name="lab"),
    path("lab/<str:way>/users/", views.UserList.as_view(), name="lab-users"),
    re_path(
        rf"^lab/(?P<way>[^/]+)/users/(?P<user_id>{ID})/\Z",
        views.UserDetail.as_view(),
        name="lab-user",
    ),
]
