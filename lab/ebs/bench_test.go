package ebs_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
)

// Each iteration is one block of 512 KiB. The raw figure is what the same blocks cost over
// TLS into a file without anything that AWS asks for.
func BenchmarkPutSnapshotBlock(b *testing.B) {
	data := block(7)
	b.Run("lab", func(b *testing.B) {
		e := endpointtest.Start(b, endpointtest.After(0, 0), endpointtest.Quiet())
		d := newClient(e)
		id := d.start(b)
		b.SetBytes(blockSize)
		b.SetParallelism(8)
		var n atomic.Int32
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := d.put(b.Context(), id, (n.Add(1)-1)%2048, data); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("raw", func(b *testing.B) {
		file, err := os.Create(filepath.Join(b.TempDir(), "blocks"))
		if err != nil {
			b.Fatal(err)
		}
		server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			offset, _ := strconv.ParseInt(r.URL.Path[1:], 10, 64)
			_, _ = io.Copy(io.NewOffsetWriter(file, offset*blockSize), r.Body)
		}))
		defer server.Close()
		client := server.Client()
		client.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
		client.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS12
		b.SetBytes(blockSize)
		b.SetParallelism(8)
		var n atomic.Int32
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r, _ := http.NewRequestWithContext(b.Context(), http.MethodPut, server.URL+"/"+strconv.Itoa(int(n.Add(1)-1)%2048), bytes.NewReader(data))
				response, err := client.Do(r)
				if err != nil {
					b.Error(err)
					continue
				}
				_ = response.Body.Close()
			}
		})
	})
}
