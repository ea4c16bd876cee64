module hybrid-mesh/lab/tools/pause

go 1.26.0
