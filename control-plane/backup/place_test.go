package backup

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
)

// buckets is the lab's S3, with the bucket "archives".
func buckets(t *testing.T) aws.Config {
	t.Helper()
	config := endpointtest.Start(t, endpointtest.Quiet()).Config()
	client := s3.NewFromConfig(config, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: aws.String("archives"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(config.Region)},
	}); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestAPlaceKeepsArchives(t *testing.T) {
	config := buckets(t)
	for _, where := range []string{filepath.Join(t.TempDir(), "backups"), "s3://archives/site/one", "s3://archives"} {
		t.Run(where, func(t *testing.T) {
			place, err := OpenPlace(where, testKey(t), func() (aws.Config, error) { return config, nil })
			if err != nil {
				t.Fatal(err)
			}
			source := filepath.Join(t.TempDir(), "source")
			if err := os.WriteFile(source, []byte("archive"), 0o600); err != nil {
				t.Fatal(err)
			}
			start := time.Date(2026, 11, 27, 9, 59, 59, 0, time.UTC)
			var want []string
			for i := range 5 {
				want = append(want, archiveName("blue", start.Add(time.Duration(i)*time.Second)))
			}
			for _, name := range append(slices.Clone(want), archiveName("green", start), "blue/note.txt") {
				if err := place.Put(t.Context(), name, source); err != nil {
					t.Fatal(err)
				}
			}
			archives, err := Archives(t.Context(), place)
			if err != nil || !slices.Equal(archives["blue"], want) || len(archives["green"]) != 1 {
				t.Errorf("archives %v, %v, want %v", archives, err, want)
			}
			stream, err := place.Open(t.Context(), want[0])
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if data, err := io.ReadAll(stream); err != nil || string(data) != "archive" {
				t.Errorf("it holds %q, %v", data, err)
			}
			if err := prune(t.Context(), Options{Place: place, Keep: 2}, "blue", want[4]); err != nil {
				t.Fatal(err)
			}
			archives, err = Archives(t.Context(), place)
			if err != nil || !slices.Equal(archives["blue"], want[3:]) || len(archives["green"]) != 1 {
				t.Errorf("archives %v, %v, want the two youngest of blue, and green's", archives, err)
			}
		})
	}
}

func TestArchivesLeaveTheirOwnersHandsOnlyEncrypted(t *testing.T) {
	shared := t.TempDir()
	if err := os.Chmod(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string]string{
		"s3://archives":                        "--backup-key-file",
		shared:                                 "chmod 700",
		filepath.Join(t.TempDir(), "new", "d"): "",
	} {
		_, err := OpenPlace(where, nil, nil)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s without a key: %v", where, err)
		}
	}
	if _, err := OpenPlace(shared, testKey(t), nil); err != nil {
		t.Errorf("with a key: %v", err)
	}
}

func TestABackupIsDueAnIntervalAfterTheLast(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		archives []string
		want     bool
	}{
		"there is none":       {nil, true},
		"it is an hour old":   {[]string{archiveName("blue", now.Add(-9*time.Hour)), archiveName("blue", now.Add(-time.Hour))}, false},
		"it is six hours old": {[]string{archiveName("blue", now.Add(-6*time.Hour))}, true},
		"it was taken by a clock that is somewhat ahead":    {[]string{archiveName("blue", now.Add(time.Minute))}, false},
		"there is none but of the future":                   {[]string{archiveName("blue", now.Add(2*time.Hour))}, true},
		"it is an hour old, and there is one of the future": {[]string{archiveName("blue", now.Add(-time.Hour)), archiveName("blue", now.AddDate(1, 0, 0))}, false},
	} {
		past, ahead := split(test.archives, now)
		if got := due(past, 6*time.Hour, now); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
		if told := len(ahead) > 0; told != strings.Contains(name, "future") {
			t.Errorf("%s: told of %v", name, ahead)
		}
	}
}

func TestTheArchiveJustTakenStaysBesideThoseOfTheFuture(t *testing.T) {
	place, source, now := directory{t.TempDir()}, filepath.Join(t.TempDir(), "source"), time.Now()
	if err := os.WriteFile(source, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, days := range []int{-1, 0, 365, 366} {
		names = append(names, archiveName("blue", now.AddDate(0, 0, days)))
		if err := place.Put(t.Context(), names[len(names)-1], source); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(t.Context(), Options{Place: place, Keep: 2}, "blue", names[1]); err != nil {
		t.Fatal(err)
	}
	archives, err := Archives(t.Context(), place)
	if want := []string{names[1], names[3]}; err != nil || !slices.Equal(archives["blue"], want) {
		t.Errorf("archives %v, %v, want %v", archives, err, want)
	}
}

func TestTheArchiveToRestoreIsTheNewestOfItsTime(t *testing.T) {
	noon := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	early, late, green := archiveName("blue", noon), archiveName("blue", noon.Add(time.Hour)), archiveName("green", noon.Add(time.Hour))
	archives := map[string][]string{"blue": {early, late}, "green": {green}}
	for _, test := range []struct {
		names   []string
		at      time.Time
		want    []string // nil: an error
		skipped []string
	}{
		{nil, time.Time{}, []string{late, green}, nil},
		{nil, noon, []string{early}, []string{"green"}},
		{nil, noon.Add(-time.Minute), nil, []string{"blue", "green"}},
		{[]string{"blue"}, time.Time{}, []string{late}, nil},
		{[]string{"blue"}, noon.Add(time.Minute), []string{early}, nil},
		{[]string{"blue"}, noon, []string{early}, nil},
		{[]string{"green"}, noon, nil, nil},
		{[]string{"red"}, time.Time{}, nil, nil},
	} {
		got, skipped, err := Choose(archives, test.names, test.at)
		if !slices.Equal(got, test.want) || !slices.Equal(skipped, test.skipped) || (err == nil) != (test.want != nil) {
			t.Errorf("%v at %v: %v, skipped %v, %v, want %v", test.names, test.at, got, skipped, err, test.want)
		}
	}
}
