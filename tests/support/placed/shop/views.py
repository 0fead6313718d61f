from django.http import Http404, JsonResponse
from django.shortcuts import get_object_or_404

from . import catalog
from .models import Item


def items(request):
    if request.method == "POST":
        created = Item.objects.create(name=request.POST["name"])
        return JsonResponse({"id": created.pk}, status=201)
    return JsonResponse({"items": list(Item.objects.order_by("pk").values("id", "name"))})


def item(request, pk):
    if request.method == "POST":
        return JsonResponse({"version": catalog.rename(pk, request.POST["name"]).version})
    return JsonResponse({"name": get_object_or_404(Item, pk=pk).name})


async def newest(request):
    found = await Item.objects.order_by("-pk").afirst()
    return JsonResponse({"id": found and found.pk})


def cached(request, pk):
    if (name := catalog.cached_name(pk)) is None:
        raise Http404
    return JsonResponse({"name": name})
