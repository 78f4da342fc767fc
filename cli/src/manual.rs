//! The manual page, made of the texts of `--help`.

use clap::Command;
use clap_mangen::Man;

use crate::failure::Failure;
use crate::output::Output;

/// The day of the last change of the commands.
const DATE: &str = "2026-12-01";

/// Prints the page: a section for each command that `--help` shows.
pub(crate) fn print(mut tool: Command) -> Result<(), Failure> {
    tool.build();
    let mut page = Vec::new();
    render(&tool, &mut page).map_err(Failure::of("cannot make the manual page"))?;
    Output::default().line(page.trim_ascii_end())
}

fn render(tool: &Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let man = Man::new(tool.clone()).date(DATE).manual("Commands");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    for command in tool.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        page.extend(format!(".SH \"{}\"\n", command.get_name().to_uppercase()).bytes());
        let (man, mut sections) = (Man::new(command.clone()), Vec::new());
        man.render_synopsis_section(&mut sections)?;
        man.render_description_section(&mut sections)?;
        if command.get_arguments().any(|argument| !argument.is_hide_set()) {
            man.render_options_section(&mut sections)?;
        }
        // The sections of a command are below the section of its name.
        let sections = String::from_utf8_lossy(&sections).replace(".SH ", ".SS ");
        page.extend(sections.bytes());
        page.extend_from_slice(b".PP\n");
        after_help(command, page);
    }
    page.extend_from_slice(b".SH \"EXIT STATUS AND NOTES\"\n");
    after_help(tool, page);
    Ok(())
}

/// The text below the options of `--help`, line by line.
fn after_help(command: &Command, page: &mut Vec<u8>) {
    let Some(text) = command.get_after_long_help().or(command.get_after_help()) else { return };
    page.extend_from_slice(b".nf\n");
    for line in text.to_string().lines() {
        // `\&` keeps a line that begins with a point or an apostrophe from being a request.
        page.extend(format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")).bytes());
    }
    page.extend_from_slice(b".fi\n");
}
