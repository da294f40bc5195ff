package s3

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestAListIsWhatWasAskedForInPagesOfAnySize(t *testing.T) {
	keys := []string{"a", "a/1", "a/2", "a/b/3", "b", "c/", "c/1", "c0", "d--1", "d--2"}
	for _, tt := range []struct {
		listing
		want string
	}{
		{listing{}, "a a/1 a/2 a/b/3 b c/ c/1 c0 d--1 d--2"},
		{listing{delimiter: "/"}, "a a/* b c/* c0 d--1 d--2"},
		{listing{delimiter: "--"}, "a a/1 a/2 a/b/3 b c/ c/1 c0 d--*"},
		{listing{prefix: "a/"}, "a/1 a/2 a/b/3"},
		{listing{prefix: "a/", delimiter: "/"}, "a/1 a/2 a/b/*"},
		{listing{prefix: "c/", delimiter: "/"}, "c/ c/1"},
		{listing{after: "b"}, "c/ c/1 c0 d--1 d--2"},
		{listing{after: "a/1", delimiter: "/"}, "a/* b c/* c0 d--1 d--2"},
		{listing{prefix: "x"}, ""},
	} {
		for size := 1; size <= len(keys)+1; size++ {
			l := tt.listing
			l.size = size
			var all []string
			for pages := 0; ; pages++ {
				p := l.of(keys)
				var items []string
				items = append(items, p.keys...)
				for _, prefix := range p.prefixes {
					items = append(items, prefix+"*")
				}
				slices.Sort(items)
				all = append(all, items...)
				if len(items) > size || pages > len(keys) {
					t.Fatalf("%+v: a page of %d", l, len(items))
				}
				if l.token = p.next; l.token == "" {
					break
				}
			}
			if got := strings.Join(all, " "); got != tt.want {
				t.Errorf("%+v in pages of %d: %s, want %s", tt.listing, size, got, tt.want)
			}
		}
	}
	if p := (listing{size: 0}).of(keys); p.next != "" || len(p.keys) > 0 {
		t.Errorf("none: %+v", p)
	}
}

func TestTheSDKReadsListsPageByPage(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.put(fmt.Sprintf("d/%d&", i), "v")
	}
	w.put("e", "v")
	var keys []string
	pages := sdk.NewListObjectsV2Paginator(w.Client, &sdk.ListObjectsV2Input{Bucket: aws.String("backups"), Prefix: aws.String("d/"), MaxKeys: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		must(t, err)
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	if got := strings.Join(keys, " "); got != "d/0& d/1& d/2& d/3& d/4&" {
		t.Errorf("%s", got)
	}
	out, err := w.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: aws.String("backups"), Delimiter: aws.String("/"), StartAfter: aws.String("a")})
	if err != nil || len(out.CommonPrefixes) != 1 || *out.CommonPrefixes[0].Prefix != "d/" || len(out.Contents) != 1 || *out.Contents[0].Size != 1 || *out.KeyCount != 2 || *out.Delimiter != "/" {
		t.Errorf("%+v, %v", out, err)
	}
	// A token that is no longer a key goes on where the key was.
	token := base64.StdEncoding.EncodeToString([]byte("d/2"))
	out, err = w.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: aws.String("backups"), ContinuationToken: &token})
	if err != nil || len(out.Contents) != 4 {
		t.Errorf("%+v, %v", out, err)
	}
}
