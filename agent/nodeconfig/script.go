package nodeconfig

import (
	"bytes"
	"cmp"
)

// Script is a program in user-data, to be run once on the instance.
type Script struct {
	Name string // the part that it is
	Body []byte
}

// script returns the script that a part is, and what will keep it from running.
func (p part) script() (Script, Problems) {
	body := p.body
	if line, _, _ := bytes.Cut(body, []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
		// Mail has such line ends; the kernel would look for an interpreter "sh\r".
		body = bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	}
	var warnings Problems
	if !bytes.HasPrefix(body, []byte("#!")) {
		warnings = Problems{p.problem("", "will fail: a script begins with #! and its interpreter")}
	}
	return Script{Name: cmp.Or(p.name, "user-data"), Body: body}, warnings
}
