package timeline_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs/rootfstest"
	"github.com/ovenbird-dev/ovenbird/agent/timeline"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

func at(seconds float64) *float64 { return &seconds }

func done(name string, started, finished float64, failed ...float64) boot.PhaseStatus {
	p := boot.PhaseStatus{Name: name, State: boot.Done, Started: &started, Finished: &finished, Attempts: 1 + len(failed), Failed: failed}
	if len(failed) > 0 {
		p.LastError = "dial tcp 169.254.169.254:80: connect: network is unreachable"
	}
	return p
}

func transferred(p boot.PhaseStatus, received int64) boot.PhaseStatus {
	p.Traffic = traffic.Count{Calls: 2, Sent: 412, Received: received}
	return p
}

var counted = traffic.Counts{
	Metadata:  traffic.Count{Calls: 13, Received: 4212},
	APIServer: traffic.Count{Calls: 6, Sent: 812, Received: 21844},
}

// statuses are what a node leaves behind when all goes well, when it does not, and at once.
func statuses() map[string]boot.Status {
	const node, instance = "ip-10-0-3-18.us-west-2.compute.internal", "i-0d7cea4564182a197"
	return map[string]boot.Status{
		"ready": {Agent: "1", Instance: instance, Node: node, Cluster: "demo", Ready: at(31.105), Traffic: counted, Phases: []boot.PhaseStatus{
			transferred(done("metadata", 15.7, 17.6, 15.72, 16.0, 16.6), 907), done("configuration", 17.6, 17.9), done("files", 17.9, 21.5),
			done("containerd", 21.5, 24.2), done("identity", 17.9, 18.8), done("api-server", 18.8, 18.9),
			done("kubelet", 24.2, 28.4), done("network", 28.4, 30.2), transferred(done("ready", 30.2, 31.1), 21043),
		}},
		"stuck": {Agent: "1", Instance: instance, Node: node, Cluster: `<b>"R&D"</b>`, Traffic: traffic.Counts{Metadata: counted.Metadata}, Phases: []boot.PhaseStatus{
			done("metadata", 4.1, 4.4), done("configuration", 4.4, 4.5), done("files", 4.5, 5.9),
			{Name: "containerd", State: boot.Running, Started: at(5.9), Attempts: 1},
			{Name: "identity", State: boot.Retrying, Started: at(4.5), Attempts: 7, LastError: `the server said "<no>" & hung up`, NextTry: at(47),
				Failed: []float64{4.9, 5.6, 7, 9.4, 14, 23, 38.5}},
			{Name: "api-server", State: boot.Waiting}, {Name: "kubelet", State: boot.Waiting}, {Name: "network", State: boot.Waiting}, {Name: "ready", State: boot.Waiting},
		}},
		"fast": {Agent: "1", Instance: instance, Node: node, Cluster: "demo", Ready: at(3.412), Traffic: counted, Phases: []boot.PhaseStatus{
			done("metadata", 1.204, 1.222), done("configuration", 1.222, 1.231), done("files", 1.231, 1.302),
			done("containerd", 1.302, 1.611), done("identity", 1.231, 1.498), done("api-server", 1.498, 1.511),
			done("kubelet", 1.611, 2.402), done("network", 2.402, 2.911), done("ready", 2.911, 3.411),
		}},
	}
}

func TestTimelinesAreTheGoldenOnes(t *testing.T) {
	for name, status := range statuses() {
		t.Run(name, func(t *testing.T) {
			line := timeline.Of(status, 45*time.Second)
			encoded, err := json.MarshalIndent(line, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			var table bytes.Buffer
			if err := line.Print(&table); err != nil {
				t.Fatal(err)
			}
			rootfstest.Golden(t, name, []rootfs.File{
				{Path: "/timeline.svg", Data: line.SVG()},
				{Path: "/timeline.json", Data: append(encoded, '\n')},
				{Path: "/timeline.txt", Data: table.Bytes()},
			})
		})
	}
}

func TestEveryDrawingIsWellFormedAndRefersToNothing(t *testing.T) {
	all := statuses()
	all["nothing has happened yet"] = boot.Status{Phases: []boot.PhaseStatus{{Name: "metadata", State: boot.Waiting}}}
	all["text that XML cannot hold"] = boot.Status{Node: "a\x00\x1b]<&\xff", Phases: []boot.PhaseStatus{done("</text><script>", 1, 2, 1.5)}}
	all["a node that failed for a day"] = boot.Status{Phases: []boot.PhaseStatus{{Name: "metadata", State: boot.Retrying, Started: at(2), Attempts: 9000, Failed: []float64{3, 4, 86000}}}}
	for name, status := range all {
		t.Run(name, func(t *testing.T) {
			svg := timeline.Of(status, timeline.Latest(status)).SVG()
			for decoder := xml.NewDecoder(bytes.NewReader(svg)); ; {
				token, err := decoder.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%v in:\n%s", err, svg)
				}
				if start, ok := token.(xml.StartElement); ok && (start.Name.Local == "script" || start.Name.Local == "image") {
					t.Errorf("it has a %s", start.Name.Local)
				}
			}
			if text := string(svg); strings.Count(text, "http") != 1 || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") { // the one is the namespace
				t.Errorf("got:\n%s", text)
			}
		})
	}
}

func TestPhasesStandInTheOrderOfTheirStarts(t *testing.T) {
	var got []string
	for _, phase := range timeline.Of(statuses()["stuck"], 45*time.Second).Phases {
		got = append(got, phase.Name)
	}
	want := "kernel and userspace, metadata, configuration, files, identity, containerd, api-server, kubelet, network, ready"
	if said := strings.Join(got, ", "); said != want {
		t.Errorf("got %s, want %s", said, want)
	}
}

func TestTheStartOfAnotherMachineEndsAtTheLastThatIsKnownOfIt(t *testing.T) {
	if got := timeline.Latest(statuses()["stuck"]); got != 47*time.Second {
		t.Errorf("got %s", got)
	}
}
