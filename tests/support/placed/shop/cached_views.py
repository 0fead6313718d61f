from django.http import Http404, JsonResponse

from . import catalog


def item(request, pk):
    if request.method == "POST":
        return JsonResponse({"version": catalog.rename(pk, request.POST["name"]).version})
    if (name := catalog.cached_name(pk)) is None:
        raise Http404
    return JsonResponse({"name": name})
