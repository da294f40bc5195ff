package kubelet

import (
	"strings"
	"testing"
)

// systemd takes the first layer off when it reads the file, and the user's own quotes when it
// splits the variable into kubelet's arguments. Karpenter writes such flags.
func TestTheUsersQuotesReachSystemd(t *testing.T) {
	in := input()
	in.UserFlags = []string{`--node-labels="a=b,c=d"`}
	files, err := Files(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(find(t, files, environment)); !strings.HasSuffix(got, ` --node-labels=\"a=b,c=d\""`+"\n") {
		t.Errorf("got %s", got)
	}
}
