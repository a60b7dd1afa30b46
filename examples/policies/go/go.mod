module local-ssd

go 1.24
