from django.http import JsonResponse
from django.shortcuts import get_object_or_404

from .models import Item


def items(request):
    if request.method == "POST":
        created = Item.objects.create(name=request.POST["name"])
        return JsonResponse({"id": created.pk}, status=201)
    return JsonResponse({"items": list(Item.objects.order_by("pk").values("id", "name"))})


def item(request, pk):
    return JsonResponse({"name": get_object_or_404(Item, pk=pk).name})


async def newest(request):
    found = await Item.objects.order_by("-pk").afirst()
    return JsonResponse({"id": found and found.pk})
