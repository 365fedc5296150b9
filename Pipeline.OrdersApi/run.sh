#!/bin/sh
exec dotnet Pipeline.OrdersApi.dll
