package timeline

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
)

// The drawing's measures, in pixels.
const (
	width     = 1100
	margin    = 24
	namesEnd  = 190 // right edge of the phases' names
	axisStart = 204
	axisEnd   = 800
	tookStart = 816 // left edge of what each phase took
	rowsTop   = 92
	rowHeight = 30
	barHeight = 18
)

// styles tells bars apart by lightness, pattern and outline, so that the drawing also
// reads in grey.
const styles = `<style>
text { font-family: "DejaVu Sans", Verdana, "Segoe UI", Arial, sans-serif; font-size: 13px; fill: #1f2430; }
.heading { font-size: 18px; font-weight: bold; }
.small { font-size: 12px; fill: #4a5060; }
.name { text-anchor: end; }
.tick { font-size: 12px; fill: #4a5060; text-anchor: middle; }
.strong { font-weight: bold; }
.stripe { fill: #f4f5f8; }
.grid { stroke: #d3d7df; }
.before { fill: #b4bac6; }
.bar { fill: #1f6f8b; }
.failing { fill: url(#failing); stroke: #a8480c; }
.open { fill: #ffffff; stroke: #1f6f8b; stroke-width: 1.5; stroke-dasharray: 5 3; }
.failure { stroke: #7a2d00; stroke-width: 2; }
.total { stroke: #1f2430; stroke-width: 1.5; }
</style>
<defs>
<pattern id="failing" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="7" height="7" fill="#fff3e6"/><rect width="3" height="7" fill="#d9772b"/>
</pattern>
</defs>
`

// SVG draws the timeline as a waterfall: a row a phase, on an axis of seconds since kernel
// start. It is one file that refers to no other.
func (t Timeline) SVG() []byte {
	d := drawing{scale: float64(axisEnd-axisStart) / max(t.Total, 0.001)}
	rowsEnd := rowsTop + rowHeight*len(t.Phases)
	totalRow := rowsEnd + rowHeight
	height := totalRow + 104

	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`, width, height, width, height)
	d.add("<title>%s</title>", escape(t.heading()+": "+t.outcome()))
	d.WriteString(styles)
	d.add(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
	d.text(margin, 36, "heading", shorten(t.heading(), 80))
	d.text(margin, 60, "small", shorten(t.subject(), 130))

	for i := range t.Phases {
		if i%2 == 0 {
			d.add(`<rect class="stripe" x="%d" y="%d" width="%d" height="%d"/>`, margin-8, rowsTop+rowHeight*i, width-2*margin+16, rowHeight)
		}
	}
	d.axis(t.Total, totalRow)
	for i, phase := range t.Phases {
		d.row(phase, rowsTop+rowHeight*i)
	}

	end := d.x(t.Total)
	d.add(`<line class="total" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, end, rowsTop, end, totalRow)
	d.text(namesEnd, rowsEnd+20, "name strong", "total")
	d.add(`<line class="total" x1="%d" y1="%d" x2="%.1f" y2="%d"/>`, axisStart, rowsEnd+15, end, rowsEnd+15)
	d.add(`<path class="total" fill="none" d="M%d %d v8 M%.1f %d l-6 -4 m6 4 l-6 4"/>`, axisStart, rowsEnd+11, end, rowsEnd+15)
	d.text(tookStart, rowsEnd+20, "strong", t.outcome())

	d.legend(t, totalRow+50)
	d.text(margin, totalRow+84, "small", t.Traffic.String())
	d.WriteString("</svg>\n")
	return []byte(d.String())
}

// drawing is an SVG under way.
type drawing struct {
	strings.Builder
	scale float64 // pixels a second
}

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *drawing) text(x, y int, class, text string) {
	d.add(`<text class="%s" x="%d" y="%d">%s</text>`, class, x, y, escape(text))
}

func (d *drawing) x(seconds float64) float64 { return axisStart + seconds*d.scale }

// axis draws a line down all rows at every tick.
func (d *drawing) axis(total float64, bottom int) {
	step := tick(total)
	for i := 0; float64(i)*step <= total*1.0001; i++ {
		at := float64(i) * step
		d.add(`<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, d.x(at), rowsTop, d.x(at), bottom+5)
		d.add(`<text class="tick" x="%.1f" y="%d">%g s</text>`, d.x(at), bottom+20, math.Round(at*1000)/1000)
	}
}

// tick returns how far apart to set ticks: 1, 2 or 5 times a power of ten, at most ten of
// them.
func tick(total float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(total, 0.001)/10)))
	for _, factor := range []float64{1, 2, 5} {
		if total/(factor*power) <= 10 {
			return factor * power
		}
	}
	return 10 * power
}

func (d *drawing) row(phase Phase, top int) {
	baseline := top + 20
	d.text(namesEnd, baseline, "name", shorten(phase.Name, 24))
	d.text(tookStart, baseline, "", phase.took())
	if phase.Start == nil {
		return
	}
	d.add("<g>")
	if phase.LastError != "" { // shown when the pointer rests on the bar
		d.add("<title>%s</title>", escape("last error: "+phase.LastError))
	}
	class := "bar"
	switch {
	case phase.Name == BeforeAgent:
		class = "before"
	case phase.State != boot.Done:
		class = "open"
	}
	end := *phase.Start + *phase.Length
	d.bar(class, *phase.Start, end, top)
	if n := len(phase.Failed); n > 0 {
		d.bar("failing", *phase.Start, phase.Failed[n-1], top)
	}
	last := math.Inf(-1)
	for _, failed := range phase.Failed {
		if x := d.x(failed); x-last >= 4 { // closer ones would only make a blot
			d.add(`<line class="failure" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, x, top+3, x, top+rowHeight-3)
			last = x
		}
	}
	d.add("</g>")
}

func (d *drawing) bar(class string, start, end float64, top int) {
	// What is too short to be seen still happened.
	d.add(`<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`,
		class, d.x(start), top+(rowHeight-barHeight)/2, max(1.5, (end-start)*d.scale), barHeight)
}

// legend explains the kinds of bars that there are.
func (d *drawing) legend(t Timeline, top int) {
	failed, open := false, false
	for _, phase := range t.Phases {
		failed = failed || len(phase.Failed) > 0
		open = open || phase.Start != nil && phase.State != boot.Done
	}
	x := margin
	for _, entry := range []struct {
		there       bool
		class, text string
	}{
		{true, "before", "before the agent"},
		{true, "bar", "a phase of the agent"},
		{failed, "failing", "attempts that failed; a line where one ended"},
		{open, "open", "not done yet"},
	} {
		if !entry.there {
			continue
		}
		d.add(`<rect class="%s" x="%d" y="%d" width="26" height="13"/>`, entry.class, x, top-11)
		d.text(x+34, top, "small", entry.text)
		x += 34 + 7*len(entry.text) + 30
	}
}

// escape makes text safe in XML; what XML cannot hold at all becomes U+FFFD.
func escape(text string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(text)); err != nil {
		return "" // a strings.Builder takes everything
	}
	return b.String()
}

func shorten(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
