# Reads what `go test -v` says and shows of it what `go test` would, and the figures of each regime: the lines
# of the tests' logs that begin with "figures:", also of runs that Go has in its cache, and of skipped tests their
# names. Of a package that fails everything is shown.

function package_ends() {
	for (i = 0; i < lines; i++)
		print line[i]
	print
	fflush()
	lines = 0
	figures = ""
}

/^ok  \t/ {
	lines = 0
	if (figures != "") $0 = $0 "\n" substr(figures, 1, length(figures) - 1)
	package_ends()
	next
}
/^FAIL\t/ || /^\?   \t/ { package_ends(); next }
/^=== (RUN|PAUSE|CONT)/ || /^ *--- PASS/ { next }
/^ *--- SKIP/ { figures = figures $0 "\n" } # CI takes no skipped test
/^ +[a-z0-9_]+_test\.go:[0-9]+: figures: / {
	sub(/^.*_test\.go:[0-9]+: figures: /, "    ")
	figures = figures $0 "\n"
}
{ line[lines++] = $0 }

END {
	for (i = 0; i < lines; i++)
		print line[i]
}
