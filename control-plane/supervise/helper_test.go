package supervise

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// The test binary is the component under supervision, and the service that gets killed.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(marker) != "":
		os.Exit(helper())
	case os.Getenv("SERVICE_DIR") != "":
		os.Exit(service(os.Getenv("SERVICE_DIR")))
	}
	os.Exit(m.Run())
}

// helper is a component: it writes a line to its log, serves its probes, and does what the
// files in its directory say:
//
//	unready   /readyz answers 503
//	dead      /livez answers 503
//	refuse    exit at once
//	deaf      ignore SIGTERM
//	chatty    write to the log at every probe
func helper() int {
	flags := flag.NewFlagSet("helper", flag.ExitOnError)
	dir := flags.String("dir", "", "")
	listen := flags.String("listen", "", "")
	_ = flags.String("color", "", "")
	_ = flags.Parse(os.Args[1:])
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(*dir, name))
		return err == nil
	}
	fmt.Println("helper says hello")
	if has("refuse") {
		fmt.Println("helper refuses to run")
		return 3
	}
	if has("deaf") {
		signal.Ignore(syscall.SIGTERM)
	}
	answer := func(bad string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if has("chatty") {
				fmt.Println("helper goes on")
			}
			if has(bad) {
				http.Error(w, "[+]ping ok\n[-]"+bad+" failed: reason withheld\n", http.StatusServiceUnavailable)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", answer("unready"))
	mux.HandleFunc("/livez", answer("dead"))
	authority, err := os.ReadFile(filepath.Join(*dir, "ca.crt"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(authority)
	server := &http.Server{Addr: *listen, Handler: mux, TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}}
	fmt.Println(server.ListenAndServeTLS(filepath.Join(*dir, "server.pem"), filepath.Join(*dir, "server.pem")))
	return 1
}

// service supervises the component of dir until it is killed.
func service(dir string) int {
	s := New(filepath.Join(dir, "run"), quick(), zap.NewNop())
	address, err := os.ReadFile(filepath.Join(dir, "address"))
	if err == nil {
		err = s.Apply([]component.Component{describeHelper(dir, string(address))})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err == nil {
		err = s.Await(ctx)
	}
	fmt.Println(err)
	<-ctx.Done()
	return 1
}

func quick() Timing {
	return Timing{
		Poll: 5 * time.Millisecond, Recheck: 5 * time.Millisecond, Watch: 5 * time.Millisecond,
		Probe: 5 * time.Second, Stuck: 50 * time.Millisecond, Grace: 5 * time.Second,
		Restart: Delays{First: time.Millisecond, Most: 10 * time.Millisecond, Well: time.Minute},
	}
}

func describeHelper(dir, address string) component.Component {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return component.Component{
		Name: "helper", Version: "1", Path: program, Args: []string{"-dir", dir, "-listen", address},
		Probe: component.Probe{
			Ready: "https://" + address + "/readyz", Live: "https://" + address + "/livez",
			Authority: filepath.Join(dir, "ca.crt"), Certificate: filepath.Join(dir, "client.pem"),
			StartTimeout: 30 * time.Second,
		},
	}
}

// bench is a directory with a component's keys and a supervisor for it.
type bench struct {
	*testing.T
	dir, address string
	*Supervisor
}

func newBench(t *testing.T, timing Timing) *bench {
	t.Helper()
	dir := t.TempDir()
	ip := netip.MustParseAddr("127.0.0.1")
	_, err := pki.Ensure(dir, pki.Spec{
		Authorities: []pki.AuthorityRequest{{Name: "ca", CommonName: "test"}},
		Leaves: []pki.Leaf{
			{Name: "server", Authority: "ca", CommonName: "helper", IPs: []netip.Addr{ip}, Usage: pki.Server, Lifetime: time.Hour},
			{Name: "client", Authority: "ca", CommonName: "probe", Usage: pki.Client, Lifetime: time.Hour},
		},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, dir: dir, address: address}
	b.write("address", address)
	b.Supervisor = New(filepath.Join(dir, "run"), timing, zap.NewNop())
	t.Cleanup(func() {
		if _, err := StopAll(context.Background(), dir, 0); err != nil {
			t.Error(err)
		}
		b.Detach()
	})
	return b
}

func (b *bench) component() component.Component { return describeHelper(b.dir, b.address) }

func (b *bench) apply(components ...component.Component) {
	b.Helper()
	if err := b.Apply(components); err != nil {
		b.Fatal(err)
	}
}

// until waits for a state of the helper.
func (b *bench) until(what string, reached func(State) bool) State {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	for {
		changed := b.Changed()
		for _, state := range b.States() {
			if state.Name == "helper" && reached(state) {
				return state
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			b.Fatalf("the helper never %s: %+v", what, b.States())
		}
	}
}

func (b *bench) ready() State {
	b.Helper()
	return b.until("became ready", func(s State) bool { return s.Phase == Ready })
}

func (b *bench) write(name, content string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) remove(name string) {
	b.Helper()
	if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) log() string {
	data, _ := os.ReadFile(filepath.Join(b.dir, "run", "helper.log"))
	return string(data)
}

// running are the processes that carry the bench's marker.
func (b *bench) running() []int {
	b.Helper()
	found, err := marked(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	var pids []int
	for _, group := range found {
		pids = append(pids, group...)
	}
	return pids
}

func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
