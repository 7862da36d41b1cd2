# A worker on a pipe: posta up --worker 'tclsh worker.tcl'
# It needs tcllib.
package require json
package require json::write

json::write indented 0
fconfigure stdin -encoding utf-8
fconfigure stdout -encoding utf-8 -buffering line

puts {{"id":"w","op":"work","actions":["greet"]}}
while {[gets stdin line] >= 0} {
    set push [json::json2dict $line]
    if {[dict get $push status] ne "running"} continue
    set lease [json::write string [dict get $push lease]]
    if {[catch {dict get $push payload name} name]} {
        puts "{\"op\":\"fail\",\"lease\":$lease,\"error\":\"there is no name\",\"retry\":false}"
    } else {
        puts "{\"op\":\"done\",\"lease\":$lease,\"data\":[json::write string "hello $name"]}"
    }
}
