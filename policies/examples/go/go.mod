module even-memory

go 1.27
